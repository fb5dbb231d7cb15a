#!/bin/sh
# Starts the server, unless it runs. It lets go of standard output.
cd "$(dirname "$0")" || exit 1
[ -f site/server.pid ] && kill -0 "$(cat site/server.pid)" 2>/dev/null && exit 0
setsid python3 server.py 8477 </dev/null >site/server.log 2>&1 &
echo $! >site/server.pid
