//! Templates of threads.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Stamp, TemplateId};

/// What a new thread can begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its id, chosen by its maker.
    pub id: TemplateId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What threads made from it tell every agent.
    pub system_prompt: Option<String>,
    /// Metadata of threads made from it.
    pub default_metadata: Option<Value>,
    /// When it was made.
    pub created_at: Stamp,
    /// Whether it comes with the bus.
    pub is_builtin: bool,
}

/// The templates that come with the bus: id, name, description, prompt.
const BUILTIN: [(&str, &str, &str, &str); 4] = [
    (
        "code-review",
        "Code Review",
        "Structured code review focused on correctness, style, security, and performance.",
        "This thread reviews code. Look first for what is wrong, then for what is unsafe, slow or \
         hard to read, and point to the exact lines. Say for every finding whether it must be \
         fixed before merging or is only a suggestion. Close with a verdict.",
    ),
    (
        "security-audit",
        "Security Audit",
        "Security-focused review identifying vulnerabilities and risks.",
        "This thread looks for ways to attack what is discussed. Consider untrusted input, \
         missing checks of identity and permission, leaking data, vulnerable dependencies and \
         unsafe defaults. Rate each finding critical, high, medium or low, say how it would be \
         used, and propose a remedy.",
    ),
    (
        "architecture",
        "Architecture Discussion",
        "Evaluate design decisions, trade-offs, and system structure.",
        "This thread weighs designs. For each option say what it costs, what it makes hard later \
         and what would have to be true for it to be right. Whoever disagrees brings an \
         alternative. End with a decision and its reasons.",
    ),
    (
        "brainstorm",
        "Brainstorm",
        "Free-form ideation session. All ideas welcome, defer judgment.",
        "This thread collects ideas. Quantity comes before quality, and building on the ideas of \
         others before judging them. Mark those that deserve a closer look, so that they can be \
         taken up afterwards.",
    ),
];

/// The templates that come with the bus.
pub fn builtin_templates(now: Stamp) -> impl Iterator<Item = Template> {
    BUILTIN
        .into_iter()
        .map(move |(id, name, description, prompt)| Template {
            id: id.into(),
            name: name.to_owned(),
            description: Some(description.to_owned()),
            system_prompt: Some(prompt.to_owned()),
            default_metadata: None,
            created_at: now,
            is_builtin: true,
        })
}
