//! Nothing is compiled here: `packaging/opus-test` builds the source that this package depends on.
