-- Auction top ten. Of each auction the ten highest bids with their places from 1 to 10; of equal prices the lower bidder is
-- first, then channel, address and time decide.
SELECT auction, best.bidder, best.price, best.channel, best.url, best.date_time, best.extra, place
FROM (
  SELECT auction, unnest(places) AS best, generate_subscripts(places, 1) AS place
  FROM (
    SELECT auction, list_slice(list(b ORDER BY price DESC, bidder, channel, url, date_time), 1, 10) AS places
    FROM bid b GROUP BY auction
  )
);
