# SPDX-License-Identifier: BUSL-1.1
"""Write encoder_expected.npy: what transformers computes for the texts of encoder_texts.json.

Usage, where torch and transformers are installed:

    python make_encoder_expected.py FOLDER_OF_ALL_MINILM_L6_V2

As sentence-transformers does it: up to 256 tokens, the mean of the tokens' vectors, length 1.
Each text is computed alone, in float64, so that the expected vectors' own error is nothing.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

here = Path(__file__).parent
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1]).double().eval()
rows = []
for text in json.loads((here / "encoder_texts.json").read_text()):
    tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        mean = model(**tokens).last_hidden_state[0].mean(0)
    rows.append((mean / mean.norm()).numpy().astype(np.float32))
    print(tokens["input_ids"].shape[1], rows[-1][:3])
np.save(here / "encoder_expected.npy", np.stack(rows))
