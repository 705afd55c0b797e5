// node fire.js BOOTSTRAP APP TRIGGER SESSION... fires the trigger for each session.
import { Kafka, Partitioners, logLevel } from 'kafkajs'

const [bootstrap, app, trigger, ...sessions] = process.argv.slice(2)
const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
const producer = kafka.producer({
  createPartitioner: Partitioners.DefaultPartitioner, // the default; a version that had another warns unless it is named
  allowAutoTopicCreation: false,
})
const value = JSON.stringify({ type: trigger, data: { client: 'kafkajs' } })
await producer.connect()
await producer.send({ topic: `${app}.events`, messages: sessions.map((key) => ({ key, value })) })
await producer.disconnect()
