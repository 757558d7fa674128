"""The oracle that asks a language model over an OpenAI-compatible endpoint, and what it takes to do so at scale."""
