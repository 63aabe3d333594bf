"""From documents to training batches: windows, masks for masked language models, counted exposures."""
