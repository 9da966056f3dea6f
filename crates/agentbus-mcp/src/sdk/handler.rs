//! The server's side of a session, or of one request without a session.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use agentbus::telemetry::Spans;
use agentbus_decisions::Board;
use http::request::Parts;
use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CompletionInfo,
    CustomRequest, CustomResult, GetPromptRequestParams, GetPromptResponse, Implementation,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    LoggingLevel, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, Reference, ServerCapabilities, ServerConfig, SetLevelRequestParams,
    SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::listen::{self, Subscribed};
use super::seal::Seal;
use super::{convert, run};
use crate::catalog::{Catalog, Change};
use crate::{Fault, Profile, Session, Visitor, limits};

/// Most streams of one connection that may be between their acknowledgement and their first note.
const LISTENERS_STARTING: usize = 16;

/// The methods that are served at every revision.
const SERVED_ALWAYS: [&str; 8] = [
    "completion/complete",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "tools/call",
    "tools/list",
];

/// Those that only revisions with sessions have.
const SERVED_IN_SESSIONS: [&str; 5] = [
    "initialize",
    "logging/setLevel",
    "ping",
    "resources/subscribe",
    "resources/unsubscribe",
];

/// Those that only revisions without sessions have.
const SERVED_WITHOUT_SESSIONS: [&str; 2] = ["server/discover", "subscriptions/listen"];

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) catalog: Catalog,
    pub(crate) instructions: String,
    pub(crate) seal: Seal,
    pub(crate) stopping: CancellationToken,
    /// Calls that are running, so that a host that stops can wait for them.
    pub(crate) running: run::Running,
    /// Where forms are shown beside.
    pub(crate) board: Option<Board>,
    /// Where the spans of calls begin.
    pub(crate) spans: Spans,
}

/// One session, or one request without a session.
pub(crate) struct Handler {
    pub(super) shared: Arc<Shared>,
    /// Who is on a connection that is not HTTP; over HTTP, every request says it anew.
    visitor: Visitor,
    pub(super) session: Arc<Session>,
    level: Mutex<LoggingLevel>,
    subscribed: Subscribed,
    starting: Mutex<VecDeque<Receiver<Change>>>,
    telling: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Handler {
    pub(crate) fn new(shared: Arc<Shared>, visitor: Visitor) -> Self {
        Self {
            shared,
            visitor,
            session: Arc::default(),
            level: Mutex::new(LoggingLevel::Debug),
            subscribed: Subscribed::default(),
            starting: Mutex::default(),
            telling: Mutex::default(),
        }
    }

    pub(super) fn visitor(&self, context: &RequestContext<RoleServer>) -> Visitor {
        self.seen(context).clone()
    }

    /// The same, to look at.
    pub(super) fn seen<'a>(&'a self, context: &'a RequestContext<RoleServer>) -> &'a Visitor {
        let parts = context.extensions.get::<Parts>();
        let found = parts.and_then(|parts| parts.extensions.get::<Visitor>());
        found.unwrap_or(&self.visitor)
    }

    /// The least level of log lines that this request may cause. A client of the newest revision
    /// asks for them with every request; one with a session got all of them until it asks for less.
    pub(super) fn log_level(&self, context: &RequestContext<RoleServer>) -> Option<LoggingLevel> {
        if is_modern(context) {
            context.meta.log_level()
        } else {
            Some(*self.level.lock())
        }
    }
}

/// Whether the request is of a revision without sessions.
pub(super) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

fn not_found(method: impl Into<Cow<'static, str>>) -> ErrorData {
    ErrorData::new(rmcp::model::ErrorCode::METHOD_NOT_FOUND, method, None)
}

fn is_served(method: &str, modern: bool) -> bool {
    let of_its_era: &[&str] = if modern {
        &SERVED_WITHOUT_SESSIONS
    } else {
        &SERVED_IN_SESSIONS
    };
    SERVED_ALWAYS.contains(&method) || of_its_era.contains(&method)
}

/// Takes a page out of a list. The cursor is the name of the last entry of the page before, which
/// stays right when others come and go.
fn page<T>(
    items: Vec<T>,
    request: Option<PaginatedRequestParams>,
    name: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, Option<String>), ErrorData> {
    let cursor = request.and_then(|request| request.cursor);
    let start = match cursor.as_deref() {
        None => 0,
        Some(cursor) => {
            let at = items.iter().position(|item| name(item) == cursor);
            let unknown = || Fault::invalid("the cursor is of no page; begin the list again");
            at.ok_or_else(|| convert::error(unknown()))? + 1
        }
    };
    let more = items.len() > start + limits::PAGE;
    let page: Vec<T> = items.into_iter().skip(start).take(limits::PAGE).collect();
    let next = page
        .last()
        .filter(|_| more)
        .map(|last| name(last).to_owned());
    Ok((page, next))
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        let about = Implementation::new("AgentBus", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities)
            .with_server_info(about)
            .with_instructions(self.shared.instructions.clone())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let changes = self.shared.catalog.changes();
        let telling = listen::to_session(context.peer, self.subscribed.clone(), changes);
        *self.telling.lock() = Some(AbortOnDropHandle::new(tokio::spawn(telling)));
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let all = self.visitor(&context).profile == Profile::Full;
        let tools = self.shared.catalog.tools();
        let listed = tools
            .iter()
            .filter(|entry| all || entry.about.profile == Profile::Core)
            .map(|entry| convert::tool(entry));
        let (tools, next) = page(listed.collect(), request, |tool| &tool.name)?;
        let mut result = ListToolsResult::with_all_items(tools);
        result.next_cursor = next;
        Ok(result)
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        self.shared
            .catalog
            .tool(name)
            .map(|entry| convert::tool(&entry))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        run::tool(self, request, context)
            .await
            .map_err(convert::error)
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let prompts = self.shared.catalog.prompts();
        let listed = prompts.iter().map(|entry| convert::prompt(entry));
        let (prompts, next) = page(listed.collect(), request, |prompt| &prompt.name)?;
        let mut result = ListPromptsResult::with_all_items(prompts);
        result.next_cursor = next;
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        run::prompt(self, request, context)
            .await
            .map_err(convert::error)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let mut listed = Vec::new();
        for entry in self.shared.catalog.resources() {
            let resources = entry.listed().await.map_err(convert::error)?;
            listed.extend(resources.iter().map(convert::resource));
        }
        let (resources, next) = page(listed, request, |resource| &resource.uri)?;
        let mut result = ListResourcesResult::with_all_items(resources);
        result.next_cursor = next;
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let resources = self.shared.catalog.resources();
        let listed = resources
            .iter()
            .filter(|entry| entry.about.is_template())
            .map(|entry| convert::template(&entry.about));
        let (templates, next) = page(listed.collect(), request, |one| &one.uri_template)?;
        let mut result = ListResourceTemplatesResult::with_all_items(templates);
        result.next_cursor = next;
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        run::resource(self, request, context)
            .await
            .map_err(convert::error)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let catalog = &self.shared.catalog;
        let completer = match &request.r#ref {
            Reference::Prompt(prompt) => {
                let entry = catalog.prompt(&prompt.name);
                let unknown = || Fault::invalid(format!("Unknown prompt: {}", prompt.name));
                let entry = entry.ok_or_else(|| convert::error(unknown()))?;
                entry.completer.clone()
            }
            Reference::Resource(resource) => {
                let resources = catalog.resources();
                let entry = resources.iter().find(|one| one.about.uri == resource.uri);
                let unknown = || Fault::NoResource(resource.uri.clone());
                entry
                    .ok_or_else(|| convert::error(unknown()))?
                    .completer
                    .clone()
            }
            _ => None,
        };
        let mut values = match completer {
            Some(complete) => complete(request.argument.name, request.argument.value).await,
            None => Vec::new(),
        };
        let more = values.len() > limits::COMPLETIONS_MAX;
        values.truncate(limits::COMPLETIONS_MAX);
        let mut info =
            CompletionInfo::new(values).map_err(|error| convert::error(Fault::failed(error)))?;
        info.has_more = Some(more);
        Ok(CompleteResult::new(info))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if is_modern(&context) {
            return Err(not_found("logging/setLevel"));
        }
        *self.level.lock() = request.level;
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if self.shared.catalog.resource(&request.uri).is_none() {
            return Err(convert::error(Fault::NoResource(request.uri)));
        }
        self.subscribed.add(request.uri).map_err(convert::error)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscribed.remove(&request.uri);
        Ok(())
    }

    /// The SDK takes a request for one of a method that it does not know when it cannot read its
    /// params, so what comes here may be of a method that is served.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method;
        if !is_served(&method, is_modern(&context)) {
            return Err(not_found(method));
        }
        let text = format!("the params of `{method}` do not have its form");
        Err(convert::error(Fault::Invalid(text)))
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.retain(|uri| self.shared.catalog.resource(uri).is_some());
            uris.truncate(limits::SUBSCRIPTIONS_MAX);
        }
        // Before the client is told that it listens, or a change in between would be lost.
        let mut starting = self.starting.lock();
        if starting.len() == LISTENERS_STARTING {
            starting.pop_front();
        }
        starting.push_back(self.shared.catalog.changes());
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let started = self.starting.lock().pop_front();
        let changes = started.unwrap_or_else(|| self.shared.catalog.changes());
        listen::to_stream(context, changes, self.shared.stopping.clone()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(cursor: &str) -> Option<PaginatedRequestParams> {
        let mut request = PaginatedRequestParams::default();
        request.cursor = Some(cursor.to_owned());
        Some(request)
    }

    #[test]
    fn pages_follow_each_other_without_a_hole() {
        let all: Vec<String> = (0..limits::PAGE + 1).map(|n| format!("t{n}")).collect();
        let (first, next) = page(all.clone(), None, |name| name).unwrap();
        let (second, end) = page(all.clone(), asked(&next.unwrap()), |name| name).unwrap();
        assert_eq!([first, second].concat(), all);
        assert_eq!(end, None);
        assert!(page(all, asked("gone"), |name| name).is_err());
    }
}
