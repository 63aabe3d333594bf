"""What a model knows of people: question answering, extraction, manipulation, prompts, probes of facts."""
