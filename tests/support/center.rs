//! A center as the wire contract describes it: claims, signed here with the Ed25519 library and nothing of the gateway's own.
#![allow(dead_code, reason = "each test uses a part")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

/// The gateway's id in all tests.
pub const GATEWAY: &str = "xing1";

/// Now, in Unix seconds.
pub fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A topic to this gateway.
pub fn down(leaf: &str) -> String {
    format!("dormgate/v1/{GATEWAY}/down/{leaf}")
}

/// A topic of this gateway.
pub fn up(leaf: &str) -> String {
    format!("dormgate/v1/{GATEWAY}/up/{leaf}")
}

/// A topic of a portal.
pub fn portal(portal: &str, leaf: &str) -> String {
    format!("dormgate/v1/{GATEWAY}/portal/{portal}/{leaf}")
}

/// A JWS in compact form.
pub fn jws(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
    let signature = part(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// One office of a campus, with its key and its own numbering.
pub struct Office {
    pub name: &'static str,
    pub campus: bool,
    pub key: SigningKey,
    pub epoch: u32,
    pub seq: u64,
}

impl Office {
    pub fn card_office() -> Self {
        Self { name: "card-office", campus: true, key: SigningKey::from_bytes(&[11; 32]), epoch: 1, seq: 0 }
    }

    pub fn apartment() -> Self {
        Self { name: "apartment", campus: false, key: SigningKey::from_bytes(&[22; 32]), epoch: 1, seq: 0 }
    }

    pub fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    pub fn aud(&self) -> &'static str {
        if self.campus { "campus" } else { GATEWAY }
    }

    /// Where its changes go.
    pub fn topic(&self) -> String {
        format!("dormgate/v1/{}/down/changes", self.aud())
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.name});
        jws(&header, claims, |bytes| self.key.sign(bytes).to_bytes().to_vec())
    }

    /// Claims that every message has, and `more`.
    pub fn claims(&self, aud: &str, more: Value) -> Value {
        let mut claims = json!({"v": 1, "iss": self.name, "aud": aud, "iat": now_s()});
        let (Value::Object(all), Value::Object(more)) = (&mut claims, more) else { panic!("objects") };
        all.extend(more);
        claims
    }

    /// The claims of a change message of the given number.
    pub fn numbered(&self, aud: &str, seq: u64, ops: &Value) -> Value {
        self.claims(aud, json!({"epoch": self.epoch, "seq": seq, "ops": ops}))
    }

    /// The next change message.
    pub fn next(&mut self, ops: &Value) -> String {
        self.seq += 1;
        self.sign(&self.numbered(self.aud(), self.seq, ops))
    }

    /// Any message to this gateway alone.
    pub fn to_gateway(&self, more: Value) -> String {
        self.sign(&self.claims(GATEWAY, more))
    }

    /// A command that is valid for 20 s.
    pub fn command(&self, jti: &str, more: Value) -> String {
        let mut claims = self.claims(GATEWAY, more);
        claims["exp"] = json!(now_s() + 20);
        claims["jti"] = json!(jti);
        self.sign(&claims)
    }
}

pub fn issue(uid: &str, holder: &str) -> Value {
    json!({"op": "issue", "uid": uid, "holder": holder})
}

pub fn reissue(holder: &str, new_uid: &str, old_uid: &str) -> Value {
    json!({"op": "reissue", "holder": holder, "new_uid": new_uid, "old_uid": old_uid})
}

pub fn cancel(uid: &str) -> Value {
    json!({"op": "cancel", "uid": uid})
}

/// Enrolment at every gate, and in room 412.
pub fn enrol(uid: &str, holder: &str) -> Value {
    json!({"op": "enrol", "uid": uid, "holder": holder, "entitlements": [
        {"kind": "gate", "zone": "*"}, {"kind": "door", "zone": "412"}, {"kind": "power_box", "zone": "412"}]})
}
