"""Everything that runs Careloop and is no part of it: servers, CLI, simulator, images, manifests."""
