"""`uir-doctor`: one page on this machine, and a test that its engines restore as they should.

It must speak where nothing else does, so only `cli` and `selftest` import the runtime at once.
"""

from uir.runtime.version import command

run = command("uir-doctor", "uir.tools.doctor.start")
