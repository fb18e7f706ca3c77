"""transformers loads what is written here, by its config.json alone, and computes with it."""

import json

import peers
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

# Layout and scheme.
CASES = {
    "ct-int8": ("compressed-tensors", 'format = "int8"'),
    "ct-int4": ("compressed-tensors", 'format = "int4"'),
    "ct-fp8-channel": ("compressed-tensors", 'format = "fp8_e4m3"'),
    "ct-fp8-block": ("compressed-tensors", 'format = "fp8_e4m3"\ngranularity = { block = [128, 128] }'),
    "ct-nvfp4": ("compressed-tensors", 'format = "nvfp4"'),
    "ct-mxfp4": ("compressed-tensors", 'format = "mxfp4"'),
    "deepseek-fp8": ("deepseek", 'format = "fp8_e4m3"\ngranularity = { block = [128, 128] }'),
    "bnb-nf4": ("bitsandbytes", 'format = "nf4"'),
    "bnb-nf4-double": ("bitsandbytes", 'format = "nf4"\ndouble_quant = true'),
}

# Schemes whose config.json has the engine round activations to eight bits too, which our decoding has no part in.
ROUNDS_ACTIVATIONS = {"ct-int8", "ct-fp8-channel", "ct-fp8-block"}

POLICY = """
[scheme.s]
{scheme}

[quantization]
layout = "{layout}"

[siblings]
qkv = ["q_proj", "k_proj", "v_proj"]
gate_up = ["gate_proj", "up_proj"]

[[QUANTIZATION_RULES]]
name = "projections"
glob = "model.layers.**.*_proj.weight"
scheme = "s"
"""


def dense(work):
    """A small llama with random weights, as its own save_pretrained writes it."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    model.save_pretrained(work / "dense")
    return work / "dense"


def logits(folder, tokens):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cpu").eval()
    with torch.no_grad():
        return model(tokens).logits.float()


def check_loads_and_runs(work):
    source = dense(work)
    tokens = torch.arange(64).reshape(1, 64) * 7 % 512
    expected, said = logits(source, tokens), []
    for case, (layout, scheme) in CASES.items():
        out, back = work / case, work / f"{case}-back"
        peers.run("quantize", peers.policy(work, POLICY.format(layout=layout, scheme=scheme)), source, "-o", out)
        if layout == "deepseek":
            # A CPU has no fp8 products: transformers is told to widen the weights when it loads them.
            config = json.loads((out / "config.json").read_text())
            config["quantization_config"]["dequantize"] = True
            (out / "config.json").write_text(json.dumps(config))
        # What the engine computes from the codes is what the dense model computes from our decoding of them.
        peers.run("dequantize", out, "-o", back, "--dtype", "bf16")
        engine, decoded = logits(out, tokens), logits(back, tokens)
        assert torch.isfinite(engine).all(), case
        close = (engine - decoded).norm() / decoded.norm()
        kl = torch.nn.functional.kl_div(
            engine.log_softmax(-1), expected.log_softmax(-1), log_target=True, reduction="batchmean"
        ) / tokens.numel()
        assert close < (0.07 if case in ROUNDS_ACTIVATIONS else 0.01), f"{case}: the engine is {close:.4f} away from our decoding"
        said.append(f"\n  {case}: relative distance to our decoding {close:.5f}, KL to the dense model {kl:.2e}")
    return "".join(said)
