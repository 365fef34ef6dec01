# SPDX-License-Identifier: BUSL-1.1
"""The judge: `transformers` in float32 on the dequantised weights of a GGUF file."""

import sys
from pathlib import Path

import torch
import work
from transformers import AutoModelForCausalLM


def main() -> None:
    order = work.job(sys.argv[1])
    torch.set_num_threads(order.threads)
    path = Path(order.model)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()

    @torch.no_grad()
    def logits(ids):
        return model(torch.tensor([ids])).logits[0].float().numpy()

    @torch.no_grad()
    def greedy(ids, count, ends):
        answer, cache, new = [], None, torch.tensor([ids])
        while len(answer) < count:
            out = model(new, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, token = out.past_key_values, int(out.logits[0, -1].argmax())
            answer.append(token)
            if token in ends:
                break
            new = torch.tensor([[token]])
        return answer

    work.judge(order, logits, greedy)


main()
