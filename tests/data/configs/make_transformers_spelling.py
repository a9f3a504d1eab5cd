"""Writes the Gemma 4 configs of this folder as transformers spells them, to transformers_spelling/.

pip install transformers==5.23.0
python tests/data/configs/make_transformers_spelling.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from transformers import AutoConfig

HERE = Path(__file__).parent

for source in sorted(HERE.glob("gemma-4-*.json")):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_bytes(source.read_bytes())
        AutoConfig.from_pretrained(folder).save_pretrained(folder)
        (HERE / "transformers_spelling" / source.name).write_bytes(path.read_bytes())
