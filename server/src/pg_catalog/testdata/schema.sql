create table accounts (id integer primary key, owner text not null, balance numeric(12,2) default 0, opened timestamptz default now(), tags text[]);
create table orders (id bigint, customer integer, amount numeric(12,2), note varchar(20), ts timestamptz not null);
create schema sales;
create table sales.items (order_id bigint not null, line integer not null, product text, price double precision, primary key (order_id, line));
create view big_orders as select id, amount from orders where amount > 100;
create materialized view totals as select customer, sum(amount) as total from orders group by customer;
comment on table accounts is 'who owes what';
comment on column accounts.owner is 'full name';
