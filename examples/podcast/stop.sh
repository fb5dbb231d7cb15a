#!/bin/sh
# Ends the server and returns when it has closed the database; well if it is stopped already.
cd "$(dirname "$0")" || exit 1
[ -f site/server.pid ] || exit 0
pid=$(cat site/server.pid)
kill "$pid" 2>/dev/null
for i in $(seq 100); do
  [ -f site/server.pid ] && kill -0 "$pid" 2>/dev/null || { rm -f site/server.pid; exit 0; }
  sleep 0.05
done
echo "server $pid does not end"
exit 1
