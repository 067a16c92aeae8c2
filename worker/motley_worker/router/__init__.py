"""The fleet's OpenAI endpoint: sends each request to a live engine by the plan's shares. Knows no torch."""
