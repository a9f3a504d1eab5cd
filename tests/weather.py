"""A tool of many types, and what the published template prints of it."""

from __future__ import annotations

from typing import Any

GET_WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Get weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "City name"},
            "days": {"type": "integer", "nullable": True},
            "unit": {"type": "string", "enum": ["c", "f"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "opt": {
                "type": "object",
                "properties": {"deep": {"type": "boolean", "description": "d"}},
                "required": ["deep"],
            },
        },
        "required": ["city"],
    },
}
DECLARED = (
    '<|tool>declaration:get_weather{description:<|"|>Get weather<|"|>,parameters:{properties:{'
    'city:{description:<|"|>City name<|"|>,type:<|"|>STRING<|"|>},'
    'days:{nullable:true,type:<|"|>INTEGER<|"|>},'
    'opt:{properties:{deep:{description:<|"|>d<|"|>,type:<|"|>BOOLEAN<|"|>}},'
    'required:[<|"|>deep<|"|>],type:<|"|>OBJECT<|"|>},'
    'tags:{items:{type:<|"|>STRING<|"|>},type:<|"|>ARRAY<|"|>},'
    'unit:{enum:[<|"|>c<|"|>,<|"|>f<|"|>],type:<|"|>STRING<|"|>}},'
    'required:[<|"|>city<|"|>],type:<|"|>OBJECT<|"|>}}<tool|>'
)
