//! The providers that variables describe, and what a file may say.

use std::io::Write;

use super::*;

fn from_variables(variables: &[(&str, &str)]) -> BTreeMap<String, Provider> {
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    all(None, &variable).unwrap()
}

#[test]
fn without_a_client_nobody_is_there() {
    let others = [
        ("COGNITO_USER_POOL_DOMAIN", "d"),
        ("OIDC_ISSUER", "https://i.example"),
    ];
    assert!(from_variables(&others).is_empty());
}

#[test]
fn each_of_the_well_known_providers_is_described_by_its_variables() {
    for (variables, name, token, scope) in [
        (
            &[("OAUTH_GITHUB_CLIENT_ID", "c")][..],
            "github",
            Some("https://github.com/login/oauth/access_token"),
            "read:user",
        ),
        (&[("OAUTH_GOOGLE_CLIENT_ID", "c")], "google", None, "openid"),
        (
            &[
                ("OAUTH_COGNITO_CLIENT_ID", "c"),
                ("COGNITO_USER_POOL_DOMAIN", "d"),
                ("COGNITO_REGION", "r"),
            ],
            "cognito",
            Some("https://d.auth.r.amazoncognito.com/oauth2/token"),
            "openid",
        ),
        (
            &[("OAUTH_AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", "t")],
            "azure",
            Some("https://login.microsoftonline.com/t/oauth2/v2.0/token"),
            "openid",
        ),
        (
            &[
                ("OIDC_CLIENT_ID", "c"),
                ("OIDC_TOKEN_ENDPOINT", "https://t.example"),
            ],
            "oidc",
            Some("https://t.example"),
            "openid",
        ),
    ] {
        let found = from_variables(variables);
        let provider = &found[name];
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(provider.client_id, "c", "{name}");
        assert_eq!(provider.token_endpoint.as_deref(), token, "{name}");
        assert_eq!(provider.scopes[0], scope, "{name}");
    }
}

#[test]
fn a_secret_comes_from_a_variable_and_not_from_a_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = r#"{"providers":{"my-work":{"issuer":"https://i.example","clientId":"c"}}}"#;
    file.write_all(text.as_bytes()).unwrap();
    let variable =
        |name: &str| (name == "OAUTH_MY_WORK_CLIENT_SECRET").then(|| "hidden".to_owned());
    let found = all(Some(file.path()), &variable).unwrap();
    assert_eq!(found["my-work"].client_secret.as_deref(), Some("hidden"));
    assert!(!format!("{found:?}").contains("hidden"));

    std::fs::write(file.path(), text.replace("clientId", "clientSecret")).unwrap();
    let error = all(Some(file.path()), &|_| None).unwrap_err().to_string();
    assert!(error.contains("clientSecret"), "{error}");
}
