from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.support.environment import CLUSTER, trust_no_authority, with_authorities


def test_tests_inherit_no_settings_of_make_of_the_program_or_of_celery() -> None:
    settings = [
        "MAKELEVEL",
        "MAKEFLAGS",
        "MFLAGS",
        "TRIGGERSTREAM_AT",
        "TRIGGERSTREAM_LOG",
        "CELERY_BROKER_URL",
    ]
    program = "import os, tests.conftest; print(*os.environ)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **dict.fromkeys([*settings, CLUSTER], "anything")},
        capture_output=True,
        text=True,
        check=True,
    )
    names = ran.stdout.split()
    assert not {*settings} & {*names}
    assert CLUSTER in names  # tests read it themselves


def test_tests_heed_an_interrupt_that_a_shell_has_their_process_ignore() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    program = "import signal, tests.conftest; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        preexec_fn=ignore,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "False\n"


def test_processes_of_tests_keep_what_they_compile() -> None:
    program = (
        "import subprocess, sys, tests.conftest; print(sys.dont_write_bytecode, flush=True); "
        "subprocess.run([sys.executable, '-c', 'import sys; print(sys.dont_write_bytecode)'], check=True)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["False", "False"]


def test_processes_of_tests_read_no_public_authorities_and_tools_that_download_do() -> None:
    environment: dict[str, str] = {"HOME": "/home"}
    trust_no_authority(environment)
    assert environment == {"HOME": "/home", "SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    assert with_authorities(environment) == {"HOME": "/home"}
    of_a_company = {"SSL_CERT_FILE": "/etc/ssl/company.pem"}
    trust_no_authority(of_a_company)
    assert with_authorities(of_a_company) == {"SSL_CERT_FILE": "/etc/ssl/company.pem"}
