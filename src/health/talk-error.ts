/** What ends a talk early, in words for people. Apart from connection.ts, which the first talk loads. */
export class TalkError extends Error {}
