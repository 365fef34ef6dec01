# SPDX-License-Identifier: BUSL-1.1
"""OpenAI's HTTP interface, with vLLM's additions, over models that serve text.

It owns no model and no tokenizer. A request goes to the model's worker as `text`, `tokens`
or `messages` and parameters; what comes back are events, which are put into OpenAI's form.
"""
