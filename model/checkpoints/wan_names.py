"""What Wan's own code calls the parts of its transformer, of which diffusers has other names: one map for all files.

A part is a module, or a parameter that belongs to none of these.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

MARK = "condition_embedder.time_proj"  # of Wan's kind; others have a `proj_out` too
IN_BLOCK: Mapping[str, str] = MappingProxyType(
    {
        f"{own}.{part}": f"{original}.{name}"
        for own, original in (("attn1", "self_attn"), ("attn2", "cross_attn"))
        for part, name in (
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "o"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    }
    | {
        "attn2.add_k_proj": "cross_attn.k_img",
        "attn2.add_v_proj": "cross_attn.v_img",
        "attn2.norm_added_k": "cross_attn.norm_k_img",
        "ffn.net.0.proj": "ffn.0",
        "ffn.net.2": "ffn.2",
        "norm2": "norm3",  # before attention to text; those it calls 1 and 2 have no weights
        "scale_shift_table": "modulation",
    }
)
AROUND: Mapping[str, str] = MappingProxyType(
    {
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
        "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
        "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
        "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
        "proj_out": "head.head",
        "scale_shift_table": "head.modulation",
    }
)


def original(name: str) -> str:
    """Wan's name of a part or parameter that diffusers calls `name`; the same where they agree."""
    block, rest = re.fullmatch(r"(blocks\.\d+\.)?(.*)", name).groups("")  # type: ignore[union-attr] # fits anything
    table = IN_BLOCK if block else AROUND
    part, _, last = rest.rpartition(".")
    if rest in table:
        return block + table[rest]
    return f"{block}{table[part]}.{last}" if part in table else name


def originals(names: Iterable[str]) -> dict[str, str]:
    """Wan's names, with diffusers', of those of `names` that have one of their own; of another network's none."""
    known = list(names)
    if not any(name.startswith(MARK) for name in known):
        return {}
    return {other: name for name in known if (other := original(name)) != name}
