//! The Agent Client Protocol in both directions.

mod sdk;
