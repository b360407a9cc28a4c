//! `restapi` and `ctl`: what they mean, and what is wrong with them.

use crate::support::{Dir, LEAST, good, has, pod, problems};
use pgwarden::cli::check::{self, Format};
use pgwarden::cli::exit::Exit;
use pgwarden::settings::{self, ServerTokens, VerifyClient};
use std::path::Path;

#[test]
fn every_key_of_the_interface_is_taken() {
    let settings = good(&format!(
        "{LEAST}restapi:
  certfile: /tls/tls.crt
  keyfile: /tls/tls.key
  keyfile_password: key-secret
  cafile: /tls/ca.crt
  ciphers: ECDHE+AESGCM
  verify_client: required
  allowlist: [10.0.0.7, 10.0.0.0/8, '2001:db8::/32', Operator.example]
  allowlist_include_members: true
  http_extra_headers: {{X-Frame-Options: DENY}}
  https_extra_headers: {{Strict-Transport-Security: max-age=1}}
  request_queue_size: 64
  server_tokens: ProductOnly
ctl: {{insecure: true, cacert: /tls/members.crt, certfile: /tls/me.crt, keyfile: /tls/me.key}}
"
    ));
    let rest = &settings.restapi;
    assert_eq!(rest.api_url(), "https://10.1.2.3:8008/patroni");
    let tls = rest.tls.as_ref().unwrap();
    assert_eq!(tls.pair.certfile, Path::new("/tls/tls.crt"));
    assert_eq!(tls.pair.keyfile.as_deref(), Some(Path::new("/tls/tls.key")));
    let password = tls.pair.keyfile_password.as_ref().unwrap();
    assert_eq!(password.expose(), "key-secret");
    assert_eq!(tls.cafile.as_deref(), Some(Path::new("/tls/ca.crt")));
    assert_eq!(tls.ciphers.as_deref(), Some("ECDHE+AESGCM"));
    assert_eq!(tls.verify_client, VerifyClient::Required);
    let allowed: Vec<_> = rest.allowlist.iter().map(ToString::to_string).collect();
    let wanted = [
        "10.0.0.7",
        "10.0.0.0/8",
        "2001:db8::/32",
        "operator.example",
    ];
    assert_eq!(allowed, wanted);
    assert!(rest.allowlist_include_members);
    assert_eq!(rest.http_extra_headers["X-Frame-Options"], "DENY");
    assert_eq!(
        rest.https_extra_headers["Strict-Transport-Security"],
        "max-age=1"
    );
    assert_eq!(rest.request_queue_size, Some(64));
    assert_eq!(rest.server_tokens, ServerTokens::ProductOnly);
    assert!(settings.ctl.insecure);
    assert_eq!(
        settings.ctl.cacert.as_deref(),
        Some(Path::new("/tls/members.crt"))
    );
    assert_eq!(
        settings.ctl.pair.unwrap().certfile,
        Path::new("/tls/me.crt")
    );
    let plain = good(LEAST).restapi;
    assert_eq!(plain.api_url(), "http://10.1.2.3:8008/patroni");
    assert_eq!((plain.tls, plain.allowlist.len()), (None, 0));
}

#[test]
fn variables_say_the_same() {
    let env = |name: &str| match name {
        "PATRONI_RESTAPI_CERTFILE" => Some("/env/tls.crt".to_owned()),
        "PATRONI_RESTAPI_ALLOWLIST" => Some("'10.0.0.0/8', localhost".to_owned()),
        "PATRONI_RESTAPI_ALLOWLIST_INCLUDE_MEMBERS" => Some("on".to_owned()),
        "PATRONI_RESTAPI_HTTP_EXTRA_HEADERS" => Some("{\"X-A\": \"b\"}".to_owned()),
        "PATRONI_CTL_INSECURE" => Some("true".to_owned()),
        "PATRONI_CTL_CACERT" => Some("/env/ca.crt".to_owned()),
        other => pod(other),
    };
    let loaded = settings::from_text("test.yml", LEAST, &env);
    let settings = loaded.settings.unwrap();
    let rest = settings.restapi;
    assert_eq!(rest.tls.unwrap().pair.certfile, Path::new("/env/tls.crt"));
    let allowed: Vec<_> = rest.allowlist.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.0/8", "localhost"]);
    assert!(rest.allowlist_include_members && settings.ctl.insecure);
    assert_eq!(rest.http_extra_headers["X-A"], "b");
    assert_eq!(
        settings.ctl.cacert.as_deref(),
        Some(Path::new("/env/ca.crt"))
    );
}

#[test]
fn what_is_wrong_with_a_key_is_said() {
    for (addition, start, word) in [
        (
            "restapi: {verify_client: required}",
            "error: restapi.verify_client:",
            "without TLS",
        ),
        (
            "restapi: {certfile: /a, verify_client: always}",
            "error: restapi.verify_client:",
            "expected none, optional or required",
        ),
        (
            "restapi: {certfile: /a, verify_client: optional}",
            "error: restapi.cafile:",
            "it is missing",
        ),
        (
            "restapi: {certfile: /a, cafile: /b, verify_client: required}",
            "warning: ctl.certfile:",
            "cannot ask one another",
        ),
        (
            "restapi: {keyfile: /a}",
            "warning: restapi.keyfile:",
            "without certfile",
        ),
        (
            "restapi: {ciphers: HIGH}",
            "warning: restapi.ciphers:",
            "without certfile",
        ),
        (
            "ctl: {keyfile_password: a}",
            "warning: ctl.keyfile_password:",
            "without certfile",
        ),
        (
            "restapi: {certfile: [a]}",
            "error: restapi.certfile:",
            "expected the path of a PEM file",
        ),
        (
            "restapi: {allowlist: [10.0.0.0/33]}",
            "error: restapi.allowlist:",
            "found \"10.0.0.0/33\"",
        ),
        (
            "restapi: {allowlist: [10.0.0.256]}",
            "error: restapi.allowlist:",
            "expected an address, a network as 10.0.0.0/8, or a host name",
        ),
        (
            "restapi: {allowlist: {a: b}}",
            "error: restapi.allowlist:",
            "expected a list",
        ),
        (
            "restapi: {allowlist_include_members: maybe}",
            "error: restapi.allowlist_include_members:",
            "expected true or false",
        ),
        (
            "restapi: {http_extra_headers: DENY}",
            "error: restapi.http_extra_headers:",
            "expected a map of keys",
        ),
        (
            "restapi: {request_queue_size: 0}",
            "error: restapi.request_queue_size:",
            "from 1 to 65535",
        ),
        (
            "restapi: {server_tokens: full}",
            "warning: restapi.server_tokens:",
            "expected original, minimal or productonly",
        ),
        (
            "ctl: {insecure: perhaps}",
            "error: ctl.insecure:",
            "expected true or false",
        ),
    ] {
        has(&problems(&format!("{LEAST}{addition}\n")), start, word);
    }
}

#[test]
fn check_opens_the_files() {
    let dir = Dir::new();
    let nothing = dir.path().join("nothing.crt");
    let text = format!(
        "{LEAST}restapi: {{certfile: {}}}\nctl: {{cacert: {}}}\n",
        nothing.display(),
        dir.path().display(),
    );
    let file = dir.file("a.yml", text);
    let mut out = Vec::new();
    assert_eq!(
        check::run_in(&file, Format::Text, &pod, &mut out),
        Exit::Config
    );
    let text = String::from_utf8(out).unwrap();
    let line = format!(
        "error: restapi.certfile: {} cannot be read",
        nothing.display()
    );
    assert!(text.lines().any(|found| found.starts_with(&line)), "{text}");
    let line = format!(
        "error: ctl.cacert: {} cannot be read: it is not a file",
        dir.path().display()
    );
    assert!(text.lines().any(|found| found.starts_with(&line)), "{text}");
}
