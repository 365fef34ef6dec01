# SPDX-License-Identifier: BUSL-1.1
"""Twenty questions of different kinds."""

PROMPTS = [
    "What is the capital of France, and why is it famous?",
    "Explain how rainbows form to a ten-year-old.",
    "Write a short poem about the sea in winter.",
    "Write a Python function that reverses a linked list.",
    "What is 17 * 23? Show the steps.",
    "Translate into French: The library opens at nine in the morning.",
    "Give me three tips for sleeping better.",
    "Summarise the plot of Romeo and Juliet in two sentences.",
    "Which is heavier, a kilogram of feathers or a kilogram of iron? Explain.",
    "List five animals that live in the desert.",
    "How do I make pancakes?",
    "What does the SQL statement SELECT COUNT(*) FROM users WHERE age > 30 do?",
    "Write a polite email asking to move a meeting to Thursday.",
    "Why is the sky blue?",
    "Invent a name for a bakery and a slogan for it.",
    "What were the causes of the First World War?",
    "Continue the story: The door was open, although she had locked it.",
    "Compare cats and dogs as pets.",
    'Return a JSON object with the keys "name" and "age" for a person called Ada, aged 36.',
    "How does a computer store a negative number?",
]
