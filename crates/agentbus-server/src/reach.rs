//! How programs reach this bus from another terminal, in lines to be copied.
//!
//! Each line is true as it stands: it names the address under which the bus was asked, it finds the
//! token of this bus and of no other, and it leaves out what this bus does not want.

use agentbus_transport_ws::credentials::{self, DATA_DIR_VARIABLE, TOKEN_VARIABLE};

use crate::{AuthMode, ServerConfig};

impl ServerConfig {
    /// What a shell on this machine puts before `agentbus`, so that it finds the token of this bus;
    /// empty where it does anyway.
    pub(crate) fn client_environment(&self) -> String {
        if self.auth == AuthMode::Off || !self.data_dir_is_named {
            return String::new();
        }
        let directory = self.data_dir.canonicalize();
        let directory = directory.unwrap_or_else(|_| self.data_dir.clone());
        format!(
            "{DATA_DIR_VARIABLE}={} ",
            quoted(&directory.to_string_lossy())
        )
    }
}

/// The lines for a bus that is reached at this URL.
pub(crate) fn lines(config: &ServerConfig, url: &str) -> Vec<String> {
    let secret = config.auth == AuthMode::Token;
    if secret && !credentials::is_local(url) {
        // The token is on another machine; once somebody has brought it here, every line finds it.
        // Not a comment: shells differ in whether a line that is typed may have one.
        let ask = "printf 'What \"agentbus token\" prints on the machine of the bus: '";
        let bring = format!("read -rs {TOKEN_VARIABLE} && export {TOKEN_VARIABLE}");
        let first = format!("{ask} && {bring}");
        return [first]
            .into_iter()
            .chain(with_token(url, "", &format!("${TOKEN_VARIABLE}")))
            .collect();
    }
    let environment = config.client_environment();
    let token = match secret {
        true => format!("$({environment}agentbus token)"),
        false => String::new(),
    };
    with_token(url, &environment, &token)
}

fn with_token(url: &str, environment: &str, token: &str) -> Vec<String> {
    let agentbus = format!("{environment}agentbus --url {url}");
    let curl = match token {
        "" => "curl".to_owned(),
        token => format!("curl -H \"Authorization: Bearer {token}\""),
    };
    let note = match environment.trim_end() {
        "" => String::new(),
        set => format!("// Run it with {set}, where the token is.\n"),
    };
    vec![
        format!("{agentbus} handle wordcount -- wc -w"),
        format!("{agentbus} invoke wordcount '\"one two three\"'"),
        format!("{agentbus} handle --stream count -- seq 1 5"),
        format!("{agentbus} invoke --stream count"),
        format!("{agentbus} sub '>'"),
        format!("{agentbus} pub order.paid '{{\"n\":1}}'"),
        format!("{curl} -d '\"one two three\"' {url}/v1/agents/wordcount/invoke"),
        format!("{curl} -N -d '{{}}' {url}/v1/agents/count/stream"),
        format!(
            "{note}let bus = Bus::builder(\"me\").transport(\"{url}\").connect().await?;\n\
             let reply = bus.invoke(\"wordcount\", &json!(\"one two three\")).await?;"
        ),
    ]
}

/// A word as a shell takes it, for lines that are shown to be copied.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_for_the_shell_if_need_be() {
        assert_eq!(quoted("/home/a-b/data.d"), "/home/a-b/data.d");
        assert_eq!(quoted("/my data"), "'/my data'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }

    /// The line that streams with curl.
    fn stream(config: &ServerConfig, url: &str) -> String {
        let mut lines = lines(config, url).into_iter();
        lines.find(|line| line.ends_with("/stream")).unwrap()
    }

    #[test]
    fn a_line_says_what_this_bus_wants_and_no_more() {
        let (here, url) = ("/no/such data", "http://127.0.0.1:1");
        let mut config = ServerConfig::new(here);
        assert_eq!(
            stream(&config, url),
            "curl -H \"Authorization: Bearer $(AGENTBUS_DATA_DIR='/no/such data' agentbus token)\" \
             -N -d '{}' http://127.0.0.1:1/v1/agents/count/stream"
        );
        let rust = lines(&config, url).pop().unwrap();
        let note = "// Run it with AGENTBUS_DATA_DIR='/no/such data', where the token is.\n";
        assert!(rust.starts_with(note), "{rust}");
        config.data_dir_is_named = false;
        assert_eq!(
            stream(&config, url),
            "curl -H \"Authorization: Bearer $(agentbus token)\" -N -d '{}' \
             http://127.0.0.1:1/v1/agents/count/stream"
        );
        assert!(lines(&config, url)[0].starts_with("agentbus --url http://127.0.0.1:1 handle "));
        config.auth = AuthMode::Off;
        config.data_dir_is_named = true;
        assert_eq!(
            stream(&config, url),
            "curl -N -d '{}' http://127.0.0.1:1/v1/agents/count/stream"
        );
    }

    #[test]
    fn from_another_machine_the_token_is_brought_there_first() {
        let url = "http://bus.example:1";
        let mut config = ServerConfig::new("/no/such data");
        let first = lines(&config, url).remove(0);
        assert!(
            first.ends_with(" && read -rs AGENTBUS_TOKEN && export AGENTBUS_TOKEN"),
            "{first}"
        );
        assert_eq!(
            stream(&config, url),
            "curl -H \"Authorization: Bearer $AGENTBUS_TOKEN\" -N -d '{}' \
             http://bus.example:1/v1/agents/count/stream"
        );
        assert!(!lines(&config, url).concat().contains("/no/such data"));
        config.auth = AuthMode::Off;
        assert!(!lines(&config, url).concat().contains("TOKEN"));
    }
}
