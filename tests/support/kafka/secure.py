"""A Kafka that encrypts, wants to know who is there, and lets each do only what it was allowed to.

Its PLAINTEXT listener is for the preparation of tests: its clients have all rights.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.kafka.server import KafkaServer
from tests.support.ports import HOST, free_port
from tests.support.secrets import write_secret

_SCRAM = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}
_TIMEOUT_S = 60.0
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
PLAIN_USER, PLAIN_PASSWORD = "plain", "a plain secret"
"""The one account that is known by PLAIN: those are in the broker's settings."""


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._signed(name, self._key, authority=True)
        self.path = folder / f"{name}.crt"
        self.path.write_bytes(_pem(self._certificate))

    def issue(self, name: str) -> tuple[Path, Path]:
        """The certificate of ``name``, good for a server on this machine and for a client, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(_pem(self._signed(name, key, authority=False)))
        write_secret(
            secret,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        return certificate, secret

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        public = key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self._name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(_usage(authority=authority), critical=True)
        )
        if not authority:
            names = [x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")]
            both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """``operations`` in Kafka's words on a ``topic``, ``group`` or ``transactional id``.

    A name that ends in ``*`` is a prefix.
    """

    resource: str
    name: str
    operations: tuple[str, ...]


class SecureKafka:
    """The server, its listeners, and the accounts that a test makes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        store = folder / "broker.pem"
        self.authority = self.certify()
        plain, controller = free_port(), free_port()
        self.ports = {name: free_port() for name in ("SSL", "SASL_SSL", "SASL_PLAINTEXT")}
        listeners = {"PLAINTEXT": plain, **self.ports}
        places = ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items())
        jaas = "org.apache.kafka.common.security"
        scram = f"{jaas}.scram.ScramLoginModule required;"
        settings = {
            "listeners": f"{places},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": places,
            "listener.security.protocol.map": ",".join(
                ["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in listeners)]
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.path),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f'{jaas}.plain.PlainLoginModule required user_{PLAIN_USER}="{PLAIN_PASSWORD}";'
            ),
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        self.server = KafkaServer(folder / "kafka", port=plain, controller_port=controller, settings=settings)

    def certify(self) -> Authority:
        """Have a new authority sign the broker's certificate, which the server reads at its next start."""
        self.authority = Authority(self._folder, "ca")
        certificate, key = self.authority.issue("broker")
        (self._folder / "broker.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
        return self.authority

    def at(self, protocol: str) -> str:
        """``host:port`` of a listener."""
        return f"{HOST}:{self.ports[protocol]}"

    def account(
        self, name: str, password: str, allowed: Collection[Allowed], *, mechanism: str = "SCRAM-SHA-512"
    ) -> None:
        """Make an account that may do what is ``allowed``."""
        credential = UserScramCredentialUpsertion(
            name, ScramCredentialInfo(_SCRAM[mechanism], 4096), password.encode()
        )
        admin = self._admin()  # it has to outlive its answers
        for made in admin.alter_user_scram_credentials([credential]).values():
            made.result(_TIMEOUT_S)
        self.allow(name, allowed)

    def allow(self, name: str, allowed: Collection[Allowed]) -> None:
        """Let ``name`` do what is ``allowed``."""
        bindings = [
            AclBinding(
                ResourceType[one.resource.upper().replace(" ", "_")],
                one.name.removesuffix("*"),
                ResourcePatternType.PREFIXED if one.name.endswith("*") else ResourcePatternType.LITERAL,
                f"User:{name}",
                "*",
                AclOperation[_WORDS.sub("_", operation).upper()],
                AclPermissionType.ALLOW,
            )
            for one in allowed
            for operation in one.operations
        ]
        if bindings:
            admin = self._admin()
            for made in admin.create_acls(bindings).values():
                made.result(_TIMEOUT_S)

    def config(self, name: str, **members: Mapping[str, object]) -> Path:
        """A file for ``--kafka-config``."""
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(members))
        return path

    def config_of(self, name: str, password: str, *, mechanism: str = "SCRAM-SHA-512") -> Path:
        """That of an account, over TLS; its password lies beside it."""
        write_secret(self._folder / f"{name}.password", f"{password}\n")
        sasl = {"mechanism": mechanism, "username": name, "password_file": f"{name}.password"}
        return self.config(name, tls={"ca": self.authority.path.name}, sasl=sasl)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.server.bootstrap})


@contextmanager
def secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """One that answers, gone at the end."""
    made = SecureKafka(folder)
    try:
        made.server.start()
        yield made
    finally:
        made.server.kill()
