"""The numbered experiments, one file per result; what they share is in experiments.harness."""
