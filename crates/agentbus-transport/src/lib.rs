//! The transport contract, the in-memory broker, and the contract kit every transport must pass.
