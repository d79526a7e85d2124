//! Operator, accounts and a user as a decentralised set-up has them: JWTs made and signed here, since no tool for them is
//! there.

use nkeys::KeyPair;
use serde_json::{Value, json};

/// What a server must know, and what a client must.
pub(crate) struct Operator {
    /// Lines of the server's configuration.
    pub(crate) config: String,
    /// A user's file of credentials.
    pub(crate) credentials: String,
    /// The same with another user's seed.
    pub(crate) forged: String,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let (operator, system, account, user) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_user());
        let of_operator = json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
        let of_account = |disk: i64| {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": disk, "disk_storage": disk, "streams": disk, "consumer": disk,
            });
            json!({ "type": "account", "version": 2, "limits": limits, "default_permissions": { "pub": {}, "sub": {} } })
        };
        let of_user =
            json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
        let operator_jwt = signed(&operator, &operator, &of_operator);
        let preload = [(&system, 0), (&account, -1)]
            .map(|(key, disk)| format!("  {}: {}\n", key.public_key(), signed(&operator, key, &of_account(disk))));
        let config = format!(
            "operator: {operator_jwt}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}}}\n",
            system.public_key(),
            preload.concat()
        );
        let user_jwt = signed(&account, &user, &of_user);
        Self { config, credentials: file(&user_jwt, &user), forged: file(&user_jwt, &KeyPair::new_user()) }
    }
}

fn signed(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let claims = json!({
        "jti": "made-by-a-test", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "test", "nats": nats,
    });
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let text = [head, claims].map(|part| base64url(part.to_string().as_bytes())).join(".");
    format!("{text}.{}", base64url(&issuer.sign(text.as_bytes()).unwrap()))
}

fn file(jwt: &str, user: &KeyPair) -> String {
    let seed = user.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// Base64 for URLs, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digits = (0..=three.len()).map(|idx| DIGITS[(bits >> (18 - 6 * idx) & 63) as usize] as char);
        text.extend(digits);
    }
    text
}
