#!/usr/bin/env bash
# PEFT's OFT adapter scrambles the input of a convolution: untrained it changes the features, merged it is another model.
#
# Packages: peft 0.21.2, torch 2.14.1 (processor), transformers 5.24.0, accelerate 1.15.0. Seen on 2026-11-30.
# Expected: OFT multiplies the weight by an orthogonal matrix that begins as the identity (Qiu et al. 2023, "Controlling
#           Text-to-Image Diffusion by Orthogonal Finetuning"), so an adapter that was not trained changes nothing, and
#           merge_and_unload() gives a model that computes the same. Guess written before the run of 15 kinds of adapters on
#           each kind of layer of a captioner: both, but for cases that warn.
# Seen:     Linear layers and convolutions with 1 x 1 kernels are right. For larger kernels the forward pass cuts the input
#           into all patches, one pixel apart, rotates them and puts them together with fold. The axes are then in the wrong
#           order (the place of the patch before the place in it), so pixels land elsewhere in the image, and fold adds up
#           where patches overlap, which nothing divides. The convolution runs on that: a 3 x 3 layer, and the patch
#           embedding of a vision Transformer too, though its own patches do not overlap. Merging multiplies the weight,
#           as it should, and so gives another model than the one that was trained. Shapes are right and nothing is said.
#           BOFT and HRA, which multiply too, and LoRA are right in both. Not known to the tracker on that date; what is known
#           there is an error for kernels that are not square, https://github.com/huggingface/peft/pull/3150, and that
#           LoRA pads with zeros where the convolution reflects: https://github.com/huggingface/peft/issues/3697
# Here:     captioner trains encoders without PEFT. For convolutions, use LoRA or BOFT.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    peft==0.21.2 torch==2.14.1 transformers==5.24.0 accelerate==1.15.0 huggingface-hub==2.4.0 numpy==2.4.6
seen=$(HF_HOME="$folder/cache" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - 2> "$folder/messages" << 'PROGRAM'
import copy

import torch
from peft import BOFTConfig, HRAConfig, LoraConfig, OFTConfig, get_peft_model
from torch import nn
from torch.nn.functional import fold

torch.manual_seed(0)
torch.set_num_threads(1)


def equal(left, right):
    return "equal" if torch.allclose(left, right, atol=1e-3) else "different"


def scrambled(images, kernel):
    """The patches, one pixel apart, added up by fold with the axes (y, x, row, column) for (row, column, y, x)."""
    patches = images.unfold(2, kernel[0], 1).unfold(3, kernel[1], 1)  # batch, channel, y, x, row, column
    return fold(patches.reshape(len(images), images.shape[1] * kernel[0] * kernel[1], -1), images.shape[-2:], kernel)


oft = {"r": 0, "oft_block_size": 4}
for name, kind, options, layer in (
    ("OFT, linear", OFTConfig, oft, nn.Linear(16, 8)),
    ("OFT, 1 x 1", OFTConfig, oft, nn.Conv2d(4, 8, 1)),
    ("OFT, 3 x 3", OFTConfig, oft, nn.Conv2d(4, 8, 3, padding=1)),
    ("OFT, 3 x 3, stride 2", OFTConfig, oft, nn.Conv2d(4, 8, 3, stride=2, padding=1)),
    ("OFT, patch embedding", OFTConfig, oft, nn.Conv2d(4, 8, 4, stride=4)),
    ("BOFT, 3 x 3", BOFTConfig, {"boft_block_size": 2}, nn.Conv2d(4, 8, 3, padding=1)),
    ("HRA, 3 x 3", HRAConfig, {"r": 2}, nn.Conv2d(4, 8, 3, padding=1)),
    ("LoRA, 3 x 3", LoraConfig, {"r": 2}, nn.Conv2d(4, 8, 3, padding=1)),
):
    images = torch.randn(2, 4, 16) if isinstance(layer, nn.Linear) else torch.randn(2, 4, 16, 16)
    before = nn.Sequential(layer).eval()
    adapted = get_peft_model(copy.deepcopy(before), kind(target_modules=["0"], **options)).eval()
    with torch.no_grad():
        untrained = adapted(images)
        print(f"{name}: untrained and before {equal(untrained, before(images))},", end=" ")
        if name.startswith("OFT") and isinstance(layer, nn.Conv2d):
            shuffled = before(scrambled(images, layer.kernel_size))
            print("untrained and scrambled", equal(untrained, shuffled), end=", ")
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
        trained = adapted(images)
        assert equal(trained, untrained) == "different"
        print("trained and merged", equal(trained, adapted.merge_and_unload()(images)))
PROGRAM
) || { cat "$folder/messages"; exit 1; }
expected="OFT, linear: untrained and before equal, trained and merged equal
OFT, 1 x 1: untrained and before equal, untrained and scrambled equal, trained and merged equal
OFT, 3 x 3: untrained and before different, untrained and scrambled equal, trained and merged different
OFT, 3 x 3, stride 2: untrained and before different, untrained and scrambled equal, trained and merged different
OFT, patch embedding: untrained and before different, untrained and scrambled equal, trained and merged different
BOFT, 3 x 3: untrained and before equal, trained and merged equal
HRA, 3 x 3: untrained and before equal, trained and merged equal
LoRA, 3 x 3: untrained and before equal, trained and merged equal"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
