"""Time one network in every way that there is to run it here: the same frames, in turns, on the same threads.

From what research code does (torch, the adapters unmerged, by PEFT) over torch merged and compiled and a plain export
on ONNX Runtime to the engines of this machine's devices, and OpenVINO's own benchmark_app as a judge from outside.
Times are medians from frame to frame, uint8 to uint8, conversions included (benchmark_app's are of inference alone);
speed-ups are against the first row that ran. Beside them: how near each result is to exact float32, and which share
of the arithmetic that the machine was seen to do in that type is put to use.

A row whose library is missing says so, and the others are timed. Make a package with all precisions for it:
uir-export --adapters rain,haze --precision auto
"""

from uir.tools.bench.speed.command import add_options, measure

__all__ = ["add_options", "measure"]
