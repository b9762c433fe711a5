"""The sets of degradations that the literature trains and compares on, as names for sets of adapters."""

from __future__ import annotations

from pathlib import Path

from uir.export.zoo import zoo_adapters
from uir.runtime.errors import UsageError

PRESETS = {
    "weather4": ("rain", "haze", "snow", "raindrop"),
    "weather3": ("rain", "haze", "snow"),
    "classic3": ("rain", "haze", "noise"),
    "five": ("rain", "lowlight", "snow", "haze", "blur"),
    "ten": ("rain", "haze", "snow", "raindrop", "lowlight", "noise", "blur", "jpeg", "shadow", "inpaint"),
}
"""The adapters of each preset. Rain comes first in all: the first is the default where there are too many for a mix.

- `weather4`: "All in One Bad Weather Removal" (Li et al., CVPR 2020): rain, fog, snow and adherent raindrops. Likewise
  TransWeather (Valanarasu et al., CVPR 2022) and WeatherDiffusion (Ozdenizci and Legenstein, TPAMI 2023), where fog is
  in the pictures with rain.
- `weather3`: "Learning Multiple Adverse Weather Removal" (Chen et al., CVPR 2022), its first setting.
- `classic3`: AirNet (Li et al., CVPR 2022) and PromptIR (Potlapalli et al., NeurIPS 2023).
- `five`: DiffUIR (Zheng et al., CVPR 2024). InstructIR's five (Conde et al. 2024) have noise, not snow.
- `ten`: DA-CLIP (Luo et al., ICLR 2024), whose "uncompleted" pictures are `inpaint` here.
"""


def preset_adapters(name: str) -> dict[str, Path]:
    """The zoo's folders of a preset's adapters, in the preset's order.

    Raises:
        UsageError: the zoo lacks some of them.
    """
    zoo = zoo_adapters()
    missing = [adapter for adapter in PRESETS[name] if adapter not in zoo]
    if missing:
        raise UsageError(
            f"--preset {name}: not in the zoo: {', '.join(missing)}; there are {', '.join(zoo)}. Train what is missing "
            f"with uir-train and name every adapter by --adapters, such as {missing[0]}=FOLDER"
        )
    return {adapter: zoo[adapter] for adapter in PRESETS[name]}
