"""The same jobs as each contender wants them, in what its workers import."""
