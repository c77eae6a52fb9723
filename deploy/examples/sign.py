#!/usr/bin/env python3
"""Signs a change message as a center does, and prints it, ready to be published with QoS 1 and not retained.

    pip install cryptography
    python3 sign.py KEY STREAM AUD EPOCH SEQ OPS.json >message
    mosquitto_pub -q 1 -t dormgate/v1/AUD/down/changes -f message

KEY     file with the 32-byte seed of the stream's Ed25519 key in base64url, as `dormgate center keygen` writes it
AUD     the gateway's id, or `campus`
SEQ     the next number of the stream in its epoch: 1, 2, 3, ... without holes, kept durably before the message is published
OPS     a list, e.g. [{"op":"reissue","holder":"08193021","old_uid":"1EA68671","new_uid":"04A1B2C3D4E5F6"}]

deploy/protocol.md explains the message. Sign.java beside this file makes the same one.
"""
import base64
import json
import sys
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(claims: dict, seed: bytes) -> str:
    """The JWS compact serialisation with EdDSA (RFC 7515, RFC 8037) of the claims."""
    header = {"alg": "EdDSA", "kid": claims["iss"], "typ": "JWT"}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    text = ".".join(base64url(part) for part in parts)
    return text + "." + base64url(Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode()))


def main(key: str, stream: str, aud: str, epoch: str, seq: str, ops: str, iat: str = "") -> None:
    with open(key) as file:
        seed = base64.urlsafe_b64decode(file.read().strip() + "=")
    with open(ops) as file:
        changes = json.load(file)
    head = {"v": 1, "iss": stream, "aud": aud, "iat": int(iat or time.time())}
    sys.stdout.write(sign({**head, "epoch": int(epoch), "seq": int(seq), "ops": changes}, seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
