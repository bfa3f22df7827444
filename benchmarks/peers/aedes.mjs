// One node of an aedes cluster: MQTT on 127.0.0.1, everything else over Redis. `node aedes.mjs MQTT_PORT REDIS_PORT`
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import persistence from 'aedes-persistence-redis'
import emitter from 'mqemitter-redis'

const [port, redis] = process.argv.slice(2).map(Number)
const server = { host: '127.0.0.1', port: redis }
const broker = await Aedes.createBroker({ mq: emitter(server), persistence: persistence(server) })
createServer(broker.handle).listen(port, '127.0.0.1')
process.on('SIGTERM', () => process.exit(0))
