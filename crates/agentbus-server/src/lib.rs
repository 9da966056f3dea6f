//! The AgentBus HTTP host: routes, SSE, WebSocket, authentication, OpenAPI.
