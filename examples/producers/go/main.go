// Fire BOOTSTRAP APP TRIGGER SESSION... fires the trigger for each session.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	bootstrap, app, trigger, sessions := os.Args[1], os.Args[2], os.Args[3], os.Args[4:]
	value, err := json.Marshal(map[string]any{"type": trigger, "data": map[string]string{"client": "franz-go"}})
	if err != nil {
		log.Fatal(err)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.DefaultProduceTopic(app+".events"),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	records := make([]*kgo.Record, len(sessions))
	for i, session := range sessions {
		records[i] = &kgo.Record{Key: []byte(session), Value: value}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		log.Fatal(err)
	}
}
