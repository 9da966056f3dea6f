//! One bus for AI agents: publish, subscribe, invoke, stream, handlers and middleware over any transport.
