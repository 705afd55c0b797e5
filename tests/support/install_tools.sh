#!/bin/sh
# Install the Debian packages of the programs that some tests need: tests of a missing program are skipped, and say so.
# It needs a Debian or Ubuntu and the right to install; elsewhere it names what is missing, and nothing fails.
set -u
missing=""
for pair in chromium:chromium kcat:kcat rabbitmq-server:rabbitmq-server initdb:postgresql; do
    program=${pair%%:*} package=${pair##*:}
    command -v "$program" >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/"$program" >/dev/null 2>&1 ||
        missing="$missing $package"
done
# Debian's Python runs a worker faster than one built without PGO, and makes environments only with this package.
if [ -x /usr/bin/python3 ] && ! /usr/bin/python3 -c "import ensurepip" 2>/dev/null; then
    missing="$missing python3-venv"
fi
if [ -z "$missing" ]; then
    echo "Every program that the tests use is installed"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "Not installed, and there is no apt-get here:$missing. Their tests will be skipped"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "Not installed:$missing. Their tests will be skipped; to install them: sudo apt-get install$missing"
    exit 0
fi
echo "Installing with apt-get:$missing"
# A package's service must not start: tests start servers of their own. The policy is put back at the end.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086 # a list of words
apt-get update -qq >/dev/null 2>&1
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
    echo "apt-get could not install$missing. Their tests will be skipped"
    exit 1
}
