# SPDX-License-Identifier: BUSL-1.1
"""Which files of a repository are taken: listings as authors on hubs lay them out."""

import pytest

from axon_client.adapters.base import Choice
from axon_client.adapters.hf_choice import choose
from axon_client.adapters.hf_version import Refs, of_commit, of_tag, wanted
from mlos_core.errors import InvalidInput

LAYOUTS = {
    "one model for several frameworks": """
        + config.json
        + model.safetensors
          pytorch_model.bin
          tf_model.h5
          flax_model.msgpack
          rust_model.ot
        + tokenizer.json
        + vocab.txt
        + README.md
          .gitattributes
          modeling_digits.py
    """,
    "shards": """
        + model-00001-of-00002.safetensors
        + model-00002-of-00002.safetensors
        + model.safetensors.index.json
          pytorch_model.bin.index.json
          pytorch_model-00001-of-00001.bin
          checkpoint-500/model.safetensors
          runs/events.json
        + LICENSE.txt
    """,
    "all of it once more": """
        + model-00001-of-00001.safetensors
          consolidated.safetensors
        + params.json
          original/consolidated.00.pth
    """,
    "all of it under the other name only": """
        + consolidated.safetensors
        + tekken.json
    """,
    "sentence-transformers": """
        + 1_Pooling/config.json
        + config_sentence_transformers.json
        + modules.json
          model.safetensors
        + onnx/model.onnx
          onnx/model_O1.onnx
          onnx/model_qint8_avx512_vnni.onnx
          onnx/model_quint8_avx2.onnx
          openvino/openvino_model.bin
          openvino/openvino_model.xml
          pytorch_model.bin
          data_config/train.json
    """,
    "parts of one model, each exported often": """
        + config.json
        + onnx/decoder_model.onnx
          onnx/decoder_model_fp16.onnx
          onnx/decoder_model_q4f16.onnx
        + onnx/encoder_model.onnx
          onnx/encoder_model_bnb4.onnx
          onnx/encoder_model_quantized.onnx
    """,
    "an exported model whose weights lie outside": """
        + onnx/model.onnx
        + onnx/model.onnx_data
        + onnx/model.onnx_data_1
          onnx/model_fp16.onnx
          onnx/model_fp16.onnx_data
    """,
    "a pipeline": """
        + model_index.json
        + scheduler/scheduler_config.json
        + tokenizer/vocab.json
        + tokenizer/merges.txt
        + unet/config.json
        + unet/diffusion_pytorch_model.safetensors
          unet/diffusion_pytorch_model.fp16.safetensors
          unet/diffusion_pytorch_model.non_ema.safetensors
          unet/diffusion_pytorch_model.bin
        + vae/config.json
        + vae/diffusion_pytorch_model.safetensors
          v1-5-pruned.safetensors
          v1-5-pruned-emaonly.ckpt
    """,
    "quantizations beside each other": """
          Digits-1B-IQ2_XXS.gguf
          Digits-1B-IQ4_XS.gguf
          Digits-1B-Q2_K.gguf
          Digits-1B-Q4_0_4_4.gguf
          Digits-1B-Q4_K_L.gguf
        + Digits-1B-Q4_K_M.gguf
          Digits-1B-Q8_0.gguf
          Digits-1B-UD-Q4_K_XL.gguf
          Digits-1B-f16.gguf
    """,
    "quantizations in folders": """
          BF16/digits-BF16-00001-of-00002.gguf
          BF16/digits-BF16-00002-of-00002.gguf
          Q8_0/digits-Q8_0.gguf
        + Q5_K_M/digits-Q5_K_M-00001-of-00002.gguf
        + Q5_K_M/digits-Q5_K_M-00002-of-00002.gguf
    """,
    "lower case": """
          qwen2.5-0.5b-instruct-fp16.gguf
          qwen2.5-0.5b-instruct-q2_k.gguf
        + qwen2.5-0.5b-instruct-q4_k_m.gguf
    """,
    "dots": """
          llama-2-7b.Q3_K_S.gguf
        + llama-2-7b.Q4_K_M.gguf
    """,
    "a model that sees": """
        + llava-Q4_K_M.gguf
          llava-Q8_0.gguf
        + mmproj-llava-f16.gguf
    """,
    "a SavedModel": """
        + saved_model.pb
        + variables/variables.index
        + variables/variables.data-00000-of-00001
        + fingerprint.pb
    """,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_model_of_a_repository_is_taken_once(layout):
    lines = LAYOUTS[layout].split("\n")
    named = [line.split() for line in lines if line.strip()]
    expected = sorted(words[1] for words in named if words[0] == "+")
    assert list(choose([words[-1] for words in named], Choice(), "a/b").paths) == expected


def test_what_was_left_out_is_told_once_for_each_model_and_for_the_formats():
    chosen = choose(["m.onnx", "m_fp16.onnx", "m.safetensors", "other.onnx"], Choice(), "a/b")
    assert chosen.notes == (
        "took m.onnx; there are also fp16 (--include NAME)",
        "took the onnx files; --include safetensors takes those instead",
    )


def test_pickles_come_last_and_only_if_they_are_allowed():
    both = ["model.safetensors", "pytorch_model.bin"]
    assert choose(both, Choice(pickles=True), "a/b").paths == ("model.safetensors",)
    asked = Choice(include=("pytorch_model.bin",), pickles=True)
    assert choose(both, asked, "a/b").paths == ("pytorch_model.bin",)
    with pytest.raises(InvalidInput, match="only pickled"):
        choose(["a.ckpt"], Choice(), "a/b")


def test_many_thousand_files_are_sorted_out_at_once():
    paths = [f"digits-{i}/model-{s:05}-of-00009.gguf" for i in range(400) for s in range(1, 10)]
    paths += [f"digits-{i}/config.json" for i in range(400)]
    assert len(choose(paths, Choice(), "a/b").paths) == 4_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gguf", "m.gguf"),
        ("pytorch", "m.safetensors"),
        ("tensorflow", "m.tflite"),
        ("onnx", "m.onnx"),
        ("m.onnx", "m.onnx"),
    ],
)
def test_a_format_or_a_framework_is_chosen_by_its_name(name, expected):
    there = ["m.onnx", "m.gguf", "m.safetensors", "m.bin", "m.tflite", "m.h5"]
    assert choose(there, Choice(include=(name,)), "a/b").paths == (expected,)


A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("v1.2.3", "1.2.3"),
        ("1.2.3-rc.1", "1.2.3-rc.1"),
        ("V2.0", "2.0.0"),
        ("1.0.0+cu118", "1.0.0+cu118"),
        ("v1", ""),
        ("main", ""),
        ("1.2.3.4", ""),
        ("release-1.0", ""),
        ("v01.2.3", ""),
        ("9" * 400 + ".0.0", ""),
    ],
)
def test_a_tag_is_a_version_if_it_says_one(tag, version):
    assert of_tag(tag) == version


def test_the_highest_tag_of_a_commit_names_it():
    refs = Refs(head=A, branches={"main": A}, tags={"v1.0": B, "v1.10": A, "v1.9": A})
    assert of_commit(A, refs) == "1.10.0"
    assert of_commit(C, refs) == f"0.0.0+{'c' * 12}"
    assert of_commit(A, refs, "q8-0") == "1.10.0+q8-0"
    assert of_commit(C, refs, "q8-0") == f"0.0.0+{'c' * 12}.q8-0"


def test_a_name_goes_before_a_version_and_a_version_before_the_beginning_of_a_commit():
    refs = Refs(head=A, branches={"main": A, "1.0.0": C}, tags={"v1.0.0": B, "1.0.0+cu118": C})
    assert wanted("1.0.0", refs).commit == B  # the tag v1.0.0, before a branch of that name
    assert wanted("v1.0.0", refs).commit == B
    assert wanted("1.0.0+cu118", refs).commit == C
    assert (wanted("1.0.0+q8-0", refs).commit, wanted("1.0.0+q8-0", refs).label) == (B, "q8-0")
    assert wanted("latest", refs).commit == wanted("", refs).commit == A
    assert wanted("ccccccc", refs).commit == C
    assert wanted("ddddddd", refs).beginning == "ddddddd"
    assert wanted("d" * 40, refs).commit == "d" * 40
    assert wanted("refs/pr/1", refs).revision == "refs/pr/1"
