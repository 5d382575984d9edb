#!/bin/bash
# What Debian's own cron does while clocks change: runs /usr/sbin/cron on an accelerated false clock and
# prints, for each expression, the minutes (UTC) at which its job really started.
#
#   measure.sh ZONE LOCAL-START HOURS EXPRESSION...   >  FILE.tsv
#   measure.sh all                                    # makes every file in this folder anew, side by side
#
# Needs root (a mount namespace of its own, so that the machine's crontabs are neither read nor touched)
# and the packages cron, faketime, libfaketime. Four hours take two minutes.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
speed=120

if [ "${1:-}" = all ]; then
    paris=('30 1 * * *' '0 2 * * *' '30 2 * * *' '10,40 2 * * *' '0 3 * * *' '15 3 * * *' '0 */3 * * *'
        '*/30 * * * *' '*/30 2 * * *' '30 * * * *' '30 */2 * * *' '0-59/20 2-3 * * *')
    howe=('45 1 * * *' '15 1 * * *' '0 2 * * *' '15 2 * * *' '30 2 * * *' '45 2 * * *' '*/10 * * * *' '15 */2 * * *')
    santiago=('30 23 * * *' '0 0 * * *' '30 0 * * *' '0 1 * * *' '0 0 * * 0' '59 23 * * 6' '*/20 * * * *' '*/20 0 * * *')
    "$0" Europe/Paris '2026-03-29 00:50:00' 4 "${paris[@]}" > "$here/paris-spring.tsv" &
    "$0" Europe/Paris '2026-10-25 00:50:00' 4 "${paris[@]}" > "$here/paris-autumn.tsv" &
    "$0" Australia/Lord_Howe '2026-10-04 00:50:00' 3 "${howe[@]}" > "$here/lord-howe-spring.tsv" &
    "$0" Australia/Lord_Howe '2026-04-05 00:50:00' 3 "${howe[@]}" > "$here/lord-howe-autumn.tsv" &
    "$0" America/Santiago '2026-09-05 22:50:00' 4 "${santiago[@]}" > "$here/santiago-spring.tsv" &
    "$0" America/Santiago '2026-04-04 22:20:00' 4 "${santiago[@]}" > "$here/santiago-autumn.tsv" &
    wait
    exit
fi

if [ "${MEASURE_UNSHARED:-}" != yes ]; then
    MEASURE_UNSHARED=yes exec unshare --mount --propagation private "$0" "$@"
fi

zone=$1 start=$2 hours=$3
shift 3
seconds=$((hours * 3600 / speed))

# The folder must be reachable after /run and the spool are hidden.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{spool,cron.d,run}
: > "$work/crontab"
: > "$work/starts"
printf 'SHELL=/bin/bash\nMAILTO=""\n' > "$work/cron.d/measure"
for expression; do
    # The job's own clock is the true one: libfaketime is not handed on through cron's environment.
    printf '%s root echo "$EPOCHREALTIME %s" >> %s/starts\n' "$expression" "$expression" "$work" >> "$work/cron.d/measure"
done
mount --bind "$work/spool" /var/spool/cron
mount --bind "$work/cron.d" /etc/cron.d
mount --bind "$work/crontab" /etc/crontab
mount --bind "$work/run" /run

began=$EPOCHREALTIME
TZ=$zone timeout "$seconds" faketime -f "@$start x$speed" /usr/sbin/cron -f || true
sleep 0.2

from=$(TZ=$zone date -d "$start" +%s)
utc() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; }
printf '# cron %s, faketime %s, tzdata %s\n' \
    "$(dpkg-query -Wf '${Version}' cron)" "$(dpkg-query -Wf '${Version}' faketime)" "$(dpkg-query -Wf '${Version}' tzdata)"
printf '# TZ=%s faketime -f "@%s x%s" /usr/sbin/cron -f\n' "$zone" "$start" "$speed"
printf 'zone\t%s\nfrom\t%s\nuntil\t%s\n' "$zone" "$(utc "$from")" "$(utc $((from + hours * 3600)))"
for expression; do
    printf '%s\t' "$expression"
    while read -r at name; do
        [ "$name" = "$expression" ] || continue
        # True seconds since the start, at the false clock's speed, down to the minute.
        seconds=$(awk -v at="$at" -v began="$began" -v speed="$speed" 'BEGIN { printf "%d", (at - began) * speed }')
        utc $(((from + seconds) / 60 * 60))
    done < "$work/starts" | paste -sd' '
done
