# KAFKA_SOME_SETTING=value becomes some.setting=value, as in the official image; then format once, then run.
set -euf
cd /var/lib/kafka
env | sed -n 's/^KAFKA_\([A-Z_]*\)=\(.*\)$/\1 \2/p' | while read -r name value; do
    case $name in HEAP_OPTS) continue ;; esac
    echo "$(echo "$name" | tr A-Z_ a-z.)=$value"
done > server.properties
run="java ${KAFKA_HEAP_OPTS:--Xmx512m} -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.logFile=System.out -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server=info -cp /opt/kafka/*"
if [ ! -e log/meta.properties ]; then
    $run kafka.tools.StorageTool format -t "${CLUSTER_ID:-4L6g3nShT-eMCtK--X86sw}" -c server.properties
fi
exec $run kafka.Kafka server.properties
