//! The face of an agent: the same for everyone, from its id.

use sha2::{Digest, Sha256};

/// The penguin is there twice, as in AgentChatBus, because the position decides.
const POOL: &str = "🦊 🐼 🐸 🐙 🦄 🐯 🦁 🐵 🐧 🐢 🦉 🐳 🐝 🦋 🪲 🦀 🐞 🦎 🐊 🐠 🐬 🦖 🦒 🦓 🦔 🦦 🦥 🦩 🐘 🦛 🐨 🐹 🐰 🐮 🐷 🐔 🐧 🌵 🌲 🌴 🌿 🍄 🪴 🍀 🍉 🍓 🍒 🍍 🥑 🌽 🍕 🍣 🍜 🍪 🍩 🍫 ⚡ 🔥 💡 🔭 🧪 🧬 🧭 🪐 🛰️ 📡 🔧 🛠️ 🧰 🧲 🧯 🔒 🔑 📌 📎 📚 🗺️ 🧠 🎯 🧩 🎲 ♟️ 🎸 🎧 🎷 🚲 🛶 🏄 🧳 🏺 🪁 🪄 🧵 🧶 🪙 🗝️";

/// Faces in [`POOL`].
const POOL_SIZE: u64 = 96;

/// The face of an agent.
#[must_use]
pub fn of_agent(id: &str) -> &'static str {
    let id = id.trim().to_lowercase();
    if id.is_empty() {
        return "❔";
    }
    let digest = Sha256::digest(id.as_bytes());
    let head = digest.iter().take(8);
    let number = head.fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let at = usize::try_from(number % POOL_SIZE).unwrap_or(0);
    POOL.split(' ').nth(at).unwrap_or("❔")
}

/// The face of a message's author.
#[must_use]
pub fn of_author(role: &str, author_id: Option<&str>, name: &str) -> &'static str {
    match (role, author_id, name) {
        ("system", _, _) | (_, Some("system"), _) | (_, None, "system") => "⚙️",
        (_, Some("human"), _) | (_, None, "human") => "👤",
        (_, Some(id), _) => of_agent(id),
        (_, None, _) => "🤖",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_its_size() {
        assert_eq!(POOL.split(' ').count() as u64, POOL_SIZE);
    }

    #[test]
    fn known_ids_have_known_faces() {
        assert_eq!(of_agent("00000000-0000-0000-0000-000000000000"), "🐬");
        assert_eq!(of_agent(" ABC "), "🪴");
        assert_eq!(of_agent(""), "❔");
        assert_eq!(of_agent("b5c4b6ac-0479-4320-af4b-41674f9f8080"), "🗺️");
    }

    #[test]
    fn authors_are_told_apart() {
        assert_eq!(of_author("user", None, "human"), "👤");
        assert_eq!(of_author("system", None, "mallory"), "⚙️");
        assert_eq!(of_author("user", None, "flooder"), "🤖");
    }
}
