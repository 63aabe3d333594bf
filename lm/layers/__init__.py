"""Parts of a block other than its token mixer: MLPs, experts, Canon layers; positions and caches."""
