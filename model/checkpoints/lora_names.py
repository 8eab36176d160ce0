"""What LoRA files call the parameters of a transformer: every name that is in use, exactly, and no guessing.

Three dialects: peft's and diffusers' names; the original ones, HunyuanVideo's (`double_blocks`, `single_blocks`), in
which one fused projection stands for several of diffusers', with the spellings of two code bases, and Wan's
(`self_attn`, `cross_attn`); and kohya's, which puts `lora_unet_` before either and underscores for dots. Underscores
for dots is therefore how all names are compared.
"""

from collections.abc import Iterator, Mapping
from itertools import product

from torch import nn

from .wan_names import originals

PREFIXES = ("base_model.model.", "lora_unet_", "lycoris_", "transformer.", "diffusion_model.", "unet.", "model.")

DOUBLE: Mapping[str, tuple[str, ...]] = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn_proj": ("attn.to_out.0",),
    "img_mlp.fc1": ("ff.net.0.proj",),
    "img_mlp.fc2": ("ff.net.2",),
    "img_mod.linear": ("norm1.linear",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn_proj": ("attn.to_add_out",),
    "txt_mlp.fc1": ("ff_context.net.0.proj",),
    "txt_mlp.fc2": ("ff_context.net.2",),
    "txt_mod.linear": ("norm1_context.linear",),
}
SINGLE: Mapping[str, tuple[str, ...]] = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.linear": ("norm.linear",),
}
REFINER: Mapping[str, tuple[str, ...]] = {
    "self_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "self_attn_proj": ("attn.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
    "adaLN_modulation.1": ("norm_out.linear",),
}
ALSO = (("_mlp.fc1", "_mlp.0"), ("_mlp.fc2", "_mlp.2"), ("_mod.linear", "_mod.lin"), ("ation.linear", "ation.lin"))
LISTS = (
    ("transformer_blocks", "double_blocks", DOUBLE),
    ("single_transformer_blocks", "single_blocks", SINGLE),
    ("context_embedder.token_refiner.refiner_blocks", "txt_in.individual_token_refiner.blocks", REFINER),
)


def parameter_names(transformer: nn.Module) -> dict[str, tuple[str, ...]]:
    """Every flat name of a parameter of `transformer`, with those that it stands for, in the fused order."""
    parameters = {name for name, _ in transformer.named_parameters()}
    names: dict[str, tuple[str, ...]] = {flat(name): (name,) for name in sorted(parameters)}
    for own, original in _originals(parameters):
        names[flat(original)] = own
    return names


def flat(name: str) -> str:
    """A name without its dialect."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace(".", "_")


def _originals(parameters: set[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """HunyuanVideo's and Wan's names for what is there, in all spellings."""
    yield from (((own,), original) for original, own in originals(parameters).items())
    for own, original, parts in LISTS:
        numbers = {name[len(own) + 1 :].split(".")[0] for name in parameters if name.startswith(f"{own}.")}
        for i, part, kind in product(sorted(numbers), parts, ("weight", "bias")):
            targets = tuple(f"{own}.{i}.{target}.{kind}" for target in parts[part])
            if parameters.issuperset(targets):
                for spelling in _spellings(part):
                    yield targets, f"{original}.{i}.{spelling}.{kind}"


def _spellings(part: str) -> set[str]:
    others = {part.replace(*pair) for pair in ALSO}
    return {part, *others, part.replace("_attn_", "_attn.")}
