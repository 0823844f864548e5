// Prisma's query engine, in its WebAssembly build, behind the HTTP that the native one speaks.
//
// The native engine is downloaded from a host that is no package registry; the WebAssembly build of the same commit is on
// npm. It runs the same planner and asks the same database, through the vendor's own adapter. It takes queries as JSON,
// and clients of the native one send GraphQL: what is written here turns the one into the other, and nothing else.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { readFile } from 'node:fs/promises'

const COMMIT = '393aa359c9ad4a4bb28630fb5613f9c281cde053'
if (process.argv.includes('--version')) {
  console.log(`query-engine ${COMMIT}`)
  process.exit(0)
}
const require = createRequire(import.meta.url)
const { parse } = require('graphql')
const { PrismaPg } = require('@prisma/adapter-pg')
const { bindAdapter } = require('@prisma/driver-adapter-utils')
const pg = require('pg')
const wasm = await import('@prisma/query-engine-wasm/postgresql/query_engine_bg.js')

const ACTION = /^(findUnique|findFirst|findMany|createOne|createMany|updateOne|updateMany|upsertOne|deleteOne|deleteMany|aggregate|groupBy)(.*)$/
const NONE = '{}'

// Returns the value of a GraphQL argument.
function valueOf(node, variables) {
  switch (node.kind) {
    case 'ObjectValue': return Object.fromEntries(node.fields.map((field) => [field.name.value, valueOf(field.value, variables)]))
    case 'ListValue': return node.values.map((one) => valueOf(one, variables))
    case 'IntValue': return Number.isSafeInteger(Number(node.value)) ? Number(node.value) : { $type: 'BigInt', value: node.value }
    case 'FloatValue': return Number(node.value)
    case 'NullValue': return null
    case 'Variable': return variables[node.name.value]
    default: return node.value
  }
}

// Returns a field's arguments and what is selected of it.
function queryOf(field, variables) {
  const args = Object.fromEntries((field.arguments ?? []).map((one) => [one.name.value, valueOf(one.value, variables)]))
  const selection = {}
  for (const one of field.selectionSet?.selections ?? [])
    selection[one.name.value] = one.selectionSet || one.arguments?.length ? queryOf(one, variables) : true
  return { arguments: readable(args), selection }
}

// The adapter knows no arrays of PostgreSQL's type `name`, which the native engine does.
function readable(args) {
  return args.query ? { ...args, query: args.query.replace('ARRAY_AGG(viewname)', 'ARRAY_AGG(viewname::text)') } : args
}

// Returns arguments with every JSON document named as one: in GraphQL the field's type says it, in JSON the value must.
function named(value, model) {
  if (Array.isArray(value)) return value.map((one) => named(one, model))
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => {
    const type = models[model]?.[name]
    if (type === 'Json') return [name, typeof one === 'string' ? { $type: 'Json', value: one } : one]
    return [name, named(one, type in models ? type : model)]
  }))
}

// Returns the query as JSON, and the names under which its answer comes and is expected.
function translated(text, variables) {
  const [field] = parse(text).definitions[0].selectionSet.selections
  const [, action, modelName] = ACTION.exec(field.name.value) ?? [null, field.name.value, undefined]
  const query = queryOf(field, variables)
  if (modelName) query.arguments = named(query.arguments, modelName)
  return { name: field.name.value, alias: field.alias?.value ?? field.name.value, query: { action, modelName, query } }
}

// Returns an answer as the native engine gives it: without the types of its values.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain)
  if (value === null || typeof value !== 'object') return value
  if ('$type' in value) return value.value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]))
}

const url = new URL(process.env.DATABASE_URL)
const pool = new pg.Pool({ host: url.searchParams.get('host') ?? url.hostname, port: Number(url.port || 5432), user: url.username, password: url.password || undefined, database: url.pathname.slice(1), max: Number(url.searchParams.get('connection_limit') ?? 10) })
pool.on('error', () => {})
const { instance } = await WebAssembly.instantiate(await readFile(require.resolve('@prisma/query-engine-wasm/postgresql/query_engine_bg.wasm')), { './query_engine_bg.js': wasm })
wasm.__wbg_set_wasm(instance.exports)
const schema = await readFile(process.env.PRISMA_DML_PATH, 'utf8')
// The type of each field, by model.
const models = {}
for (const [, model, body] of schema.matchAll(/^model (\w+) \{([^]*?)^\}/gm))
  models[model] = Object.fromEntries([...body.matchAll(/^\s+(\w+)\s+(\w+)/gm)].map(([, name, type]) => [name, type]))
const datamodel = schema.replace(/generator client \{[^}]*\}/, 'generator client {\n  provider = "prisma-client-js"\n  previewFeatures = ["driverAdapters"]\n}')
const engine = new wasm.QueryEngine({ datamodel, logLevel: 'error', logQueries: false }, () => {}, bindAdapter(new PrismaPg(pool)))
await engine.connect(NONE)

// Returns the answer to a call of the native engine's HTTP.
async function answer(request, body) {
  const path = request.url
  const tx = request.headers['x-transaction-id']
  if (path === '/status') return { status: 'ok' }
  if (path === '/transaction/start') return JSON.parse(await engine.startTransaction(body, NONE))
  const ended = /^\/transaction\/([^/]+)\/(commit|rollback)$/.exec(path)
  if (ended) return JSON.parse(await (ended[2] === 'commit' ? engine.commitTransaction(ended[1], NONE) : engine.rollbackTransaction(ended[1], NONE)) || NONE)
  const sent = JSON.parse(body)
  if (sent.batch) {
    const all = sent.batch.map((one) => translated(one.query, one.variables ?? {}))
    const batch = { batch: all.map((one) => one.query), transaction: sent.transaction ? {} : undefined }
    const found = JSON.parse(await engine.query(JSON.stringify(batch), NONE, tx))
    if (found.errors) return found
    return { batchResult: found.batchResult.map((one, at) => one.data ? { data: { [all[at].alias]: plain(one.data[all[at].name]) } } : one) }
  }
  const one = translated(sent.query, sent.variables ?? {})
  const found = JSON.parse(await engine.query(JSON.stringify(one.query), NONE, tx))
  return found.errors ? found : { data: { [one.alias]: plain(found.data[one.name]) } }
}

createServer(async (request, response) => {
  const pieces = []
  for await (const piece of request) pieces.push(piece)
  let found
  try {
    found = await answer(request, Buffer.concat(pieces).toString())
  } catch (error) {
    console.error('engine:', error, Buffer.concat(pieces).toString().slice(0, 500))
    found = { errors: [{ error: String(error), user_facing_error: { is_panic: false, message: String(error), meta: {} } }] }
  }
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(found))
}).listen(Number(process.argv[process.argv.indexOf('-p') + 1]), 'localhost')
process.on('SIGINT', () => process.exit(0))
