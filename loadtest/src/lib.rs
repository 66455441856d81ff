//! What `tandem-loadtest` is made of: one module per subcommand. A library so that tests can use the parts directly.

pub mod link;
