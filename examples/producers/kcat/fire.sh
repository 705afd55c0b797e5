#!/bin/sh
# fire.sh BOOTSTRAP APP TRIGGER SESSION... fires the trigger for each session.
bootstrap=$1 app=$2 trigger=$3
shift 3
# With the header ce_type, the value is the event's data alone.
printf '%s\t{"client": "kcat"}\n' "$@" |
    kcat -P -b "$bootstrap" -t "$app.events" -K '\t' -H "ce_type=$trigger" -X enable.idempotence=true
