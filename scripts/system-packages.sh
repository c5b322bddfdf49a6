#!/usr/bin/env bash
# Installs what the tests use beside Python packages: Chromium, which reads the reports as a browser does.
set -euo pipefail

for browser in chromium chromium-browser google-chrome; do
  if command -v "$browser" > /dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  if apt-get update -q && apt-get install -q -y --no-install-recommends chromium; then
    exit 0
  fi
fi
echo "Chromium is not here and cannot be installed; the browser tests will skip." >&2
