//! Spans of what is served: one for each call of a tool, each prompt and each resource that is read,
//! also where there is none of that name.
//!
//! Names and attributes are those of the OpenTelemetry conventions for MCP. Arguments and answers
//! are never told, nor is what a tool says of its failure, which may repeat them. A bus that collects
//! no spans pays nothing for this.

use agentbus::protocol::TraceParent;
use agentbus::telemetry::{Failure, Served, ServerSpan};
use http::request::Parts;
use rmcp::RoleServer;
use rmcp::model::ProtocolVersion;
use rmcp::service::RequestContext;

use super::handler::{Handler, Shared};
use super::wire::Posted;
use super::{convert, http as streamable};
use crate::content::{Document, Filled, Reply};
use crate::{Fault, Visitor, limits};

/// A request that has a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Tool,
    /// A call of a tool that there is not: clients make up such names.
    UnknownTool,
    Prompt,
    /// A prompt that there is not, of which clients make up the name too.
    UnknownPrompt,
    /// Also one that there is not: no resource names its span.
    Resource,
}

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tool | Self::UnknownTool => "tools/call",
            Self::Prompt | Self::UnknownPrompt => "prompts/get",
            Self::Resource => "resources/read",
        }
    }

    /// What is said of a request for what there is not. It repeats nothing of what was made up.
    const fn missing(self) -> &'static str {
        match self {
            Self::Tool | Self::UnknownTool => "there is no tool of this name",
            Self::Prompt | Self::UnknownPrompt => "there is no prompt of this name",
            Self::Resource => "there is no resource of this URI",
        }
    }

    /// What there is to tell of such a request for the tool, prompt or resource of this name.
    fn about(self, name: &str) -> Served {
        let (method, name) = (self.as_str(), short(name));
        let mut attributes = vec![("mcp.method.name", method.to_owned())];
        // Of resources and of made up names there is no end, and the name of a span should be one
        // of few.
        let title = match self {
            Self::Resource | Self::UnknownTool | Self::UnknownPrompt => method.to_owned(),
            Self::Tool | Self::Prompt => format!("{method} {name}"),
        };
        match self {
            Self::Tool | Self::UnknownTool => {
                attributes.push(("gen_ai.operation.name", "execute_tool".to_owned()));
                attributes.push(("gen_ai.tool.name", name));
            }
            Self::Prompt | Self::UnknownPrompt => attributes.push(("gen_ai.prompt.name", name)),
            Self::Resource => attributes.push(("mcp.resource.uri", name)),
        }
        Served {
            name: title,
            attributes,
            link: None,
        }
    }
}

/// An answer, which may say that the work has failed.
pub(super) trait Answered {
    fn is_failure(&self) -> bool {
        false
    }
}

impl Answered for Reply {
    fn is_failure(&self) -> bool {
        self.is_error
    }
}

impl Answered for Filled {}

impl Answered for Vec<Document> {}

/// Begins the span of a request of the protocol. The message itself says what caused it; what
/// carries the message may name another span, which counts where the message names none, and is
/// linked otherwise.
pub(super) fn begin(
    handler: &Handler,
    context: &RequestContext<RoleServer>,
    method: Method,
    name: &str,
) -> ServerSpan {
    let posted = context.extensions.get::<Posted>();
    let carrier = match posted {
        Some(posted) => posted.trace,
        None => handler.seen(context).trace,
    };
    let named = trace_of(context.meta.get_traceparent());
    handler.shared.spans.serve(named.or(carrier), || {
        let mut served = method.about(name);
        served.link = named.and(carrier).filter(|other| Some(*other) != named);
        let mut add = |key: &'static str, value: Option<&str>| {
            let told = value.map(|value| (key, short(value)));
            served.attributes.extend(told);
        };
        let parts = context.extensions.get::<Parts>();
        let session = match posted {
            Some(posted) => Some(posted.session.as_str()),
            None => parts.and_then(|parts| streamable::session(&parts.headers)),
        };
        let (id, version) = (context.id.to_string(), context.protocol_version());
        add("jsonrpc.request.id", Some(id.as_str()));
        let version = version.as_ref().map(ProtocolVersion::as_str);
        add("mcp.protocol.version", version);
        add("mcp.session.id", session);
        let http = posted.is_some() || parts.is_some();
        add("network.transport", Some(if http { "tcp" } else { "pipe" }));
        served
    })
}

/// Begins the span of a request that comes alone over plain HTTP.
pub(super) fn alone(shared: &Shared, visitor: &Visitor, method: Method, name: &str) -> ServerSpan {
    shared.spans.serve(visitor.trace, || {
        let mut served = method.about(name);
        let http = ("network.transport", "tcp".to_owned());
        served.attributes.push(http);
        served
    })
}

/// Ends a span: the answer says whether the work has failed, or there is none.
pub(super) fn end(mut span: ServerSpan, outcome: Result<bool, &Fault>) {
    if !span.is_told() {
        return;
    }
    match outcome {
        Ok(false) => span.end(None),
        Ok(true) => span.end(Some(Failure {
            kind: "tool_error".to_owned(),
            message: "the tool answered that it failed".to_owned(),
        })),
        // A span that is dropped was cancelled.
        Err(Fault::Cancelled) => drop(span),
        Err(fault) => {
            let kind = refused(&mut span, fault);
            let message = match fault {
                // What is wrong with arguments may repeat them.
                Fault::Invalid(_) => "the request makes no sense".to_owned(),
                other => short(&other.to_string()),
            };
            span.end(Some(Failure { kind, message }));
        }
    }
}

/// Ends the span of a request for what there is not. For tools some revisions know this as a fault;
/// where it is an answer, that says what is wrong.
pub(super) fn end_unknown(mut span: ServerSpan, method: Method, fault: Option<&Fault>) {
    if !span.is_told() {
        return;
    }
    let kind = match fault {
        Some(fault) => refused(&mut span, fault),
        None => "tool_error".to_owned(),
    };
    let message = method.missing().to_owned();
    span.end(Some(Failure { kind, message }));
}

/// Notes with which code a request is refused; the code.
fn refused(span: &mut ServerSpan, fault: &Fault) -> String {
    let code = convert::error(fault.clone()).code.0.to_string();
    span.note("rpc.response.status_code", &code);
    code
}

/// Reads a trace context. One that is not valid is as good as none, as the specification of trace
/// contexts wants it.
pub(super) fn trace_of(text: Option<&str>) -> Option<TraceParent> {
    text.and_then(TraceParent::parse)
}

/// As much of a text as a span tells: clients choose most of them.
fn short(text: &str) -> String {
    text.chars().take(limits::SPAN_TEXT_MAX).collect()
}
