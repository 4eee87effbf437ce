"""Where shards are computed: from examples to a shard's table. What is written is `whence.index.shard_commits`'."""
