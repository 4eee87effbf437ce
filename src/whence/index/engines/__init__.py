"""Where shards are computed. An engine turns examples into a shard's table; it writes nothing."""
