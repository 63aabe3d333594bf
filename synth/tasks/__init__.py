"""One task per file; synth.registry finds them."""
